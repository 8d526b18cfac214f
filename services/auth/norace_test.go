//go:build !race

package auth

// widest is how wide an interval of times may be that still says something.
const widest = 0.1
