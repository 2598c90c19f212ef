"""The shop lets a language model write about its products: ``python -m example_project.demo --llm``."""
