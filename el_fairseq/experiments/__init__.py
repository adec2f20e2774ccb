"""From an experiment's file to its table; errors that a user can fix raise UserError."""
