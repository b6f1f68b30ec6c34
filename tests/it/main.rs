mod heart;
mod model;
