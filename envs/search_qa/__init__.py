"""SearchQA: answer questions by searching a local corpus."""
