
mod simulator;
