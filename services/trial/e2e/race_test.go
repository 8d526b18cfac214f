//go:build race

package e2e_test

var (
	buildFlags = []string{"-race"}
	// chosen are the tests that are made where none is named: the services are too
	// slow with the detector for those that measure time.
	chosen = "^Test(Promises|EveryFault|Trial|Trace)$"
)
