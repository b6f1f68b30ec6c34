mod dashboards;
mod demo;
mod house;
mod heart;
mod locks;
mod store;
mod webhooks;
