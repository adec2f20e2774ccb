"""From an experiment's file to its table; what a user can mend ends a function in a UserError."""
