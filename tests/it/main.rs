mod locks;
mod store;
