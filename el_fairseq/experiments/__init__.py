"""Many runs: what is to be done, on this machine or by Slurm, and the comparison of them."""
