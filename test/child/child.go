// Package child has the program for tests that start their own test binary some hundred times, as agents that are
// killed, or as renders. The race detector makes each start several times as slow, and the same code runs with it in
// the tests' own process. So the program is built without it.
//
// Run is called once, by TestMain. Program may be called at once, by children too.
package child

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const variable = "SLUICE_TEST_CHILD"

// Run runs a package's tests and returns the exit code. Where they run with the race detector, it first builds their
// binary without.
func Run(m *testing.M, run func(*testing.M) int) int {
	if !RaceDetector {
		return run(m)
	}
	dir, err := os.MkdirTemp("", "sluice-child-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "child")
	build := exec.Command("go", "test", "-c", "-race=false", "-trimpath", "-o", file, ".") //nolint:noctx // see -timeout
	build.Env = append(os.Environ(), "CGO_ENABLED=0")                                      // as make build does
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the tests without the race detector: %v: %s\n", err, out)
		return 1
	}
	if err := os.Setenv(variable, file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run(m)
}

// Program returns the file of the test binary to start.
func Program() (string, error) {
	if file := os.Getenv(variable); file != "" {
		return file, nil
	}
	return os.Executable()
}
