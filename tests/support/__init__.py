"""What tests share. A helper stands here once; no test module imports another."""
