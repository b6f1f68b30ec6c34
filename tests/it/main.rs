mod webhooks;
