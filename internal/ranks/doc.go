// Package ranks is what processes that train together know of one another: who
// they are (from torchrun's environment, Slurm's or koala-lm's own --nproc), where
// they meet, that all of them are there, were given the same work and are alive.
// It is plain TCP beside the sums that c10d makes, and needs no libtorch: a sum
// that does not come says only that somebody is missing, and a [Circle] says who.
package ranks
