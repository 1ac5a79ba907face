"""The CALM benchmark: five public credit and insurance tasks as prompts, and answers to them (docs/calm.md)."""
