mod house;
mod heart;
