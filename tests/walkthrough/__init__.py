"""The road of docs/walkthrough.md, walked by a program: its commands, what stands in for hands, its pictures."""
