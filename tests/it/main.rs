mod house;
mod heart;
mod locks;
mod store;
