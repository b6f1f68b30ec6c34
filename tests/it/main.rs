mod api;
mod bad_input;
mod heart;
mod house;
mod locks;
mod openapi;
mod store;
mod webhooks;
