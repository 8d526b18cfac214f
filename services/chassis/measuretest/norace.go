//go:build !race

package measuretest

const race = false
