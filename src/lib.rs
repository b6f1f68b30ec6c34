pub mod clock;
pub mod locks;
pub mod order;
pub mod provider;
pub mod random;
pub mod sealing;
pub mod store;
pub mod simulator;
