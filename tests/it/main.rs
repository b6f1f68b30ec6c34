mod demo;
mod webhooks;
