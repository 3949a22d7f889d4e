"""The loops: discrete search, Gauss-Newton refinement, linear starts. Each exists once; methods configure them."""
