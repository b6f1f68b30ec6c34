mod api;
mod heart;
mod house;
mod locks;
mod store;
mod webhooks;
