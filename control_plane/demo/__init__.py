"""The guided tour: what it runs, the steps it takes, how it looks."""
