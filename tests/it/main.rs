mod heart;
