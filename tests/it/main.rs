mod heart;
mod locks;
mod store;
