//go:build race

package auth

// widest: the race detector makes times as uncertain as it likes.
const widest = 1
