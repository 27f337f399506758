"""burnish: fine-tune language models, alone and inside RAG, and prove what that gained."""
