mod actors;
mod callbacks;
mod heart;
mod locks;
mod store;
