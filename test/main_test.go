package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluice-cd/sluice/test/child"
	"github.com/sluice-cd/sluice/test/postgres"
)

// These variables name the binaries that the tests run, which TestMain builds once.
const (
	binaryVariable = "SLUICE_TEST_BINARY"
	agentVariable  = "SLUICE_TEST_AGENT" // the part of it that runs in cells
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-test-")
	if err == nil {
		err = buildBinaries(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = postgres.RunTests(m)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func buildBinaries(dir string) error {
	args := []string{"build", "-o", dir}
	if child.RaceDetector {
		args = append(args, "-race")
	}
	args = append(args, module+"/cmd/sluice", module+"/cmd/sluice-agent")
	out, err := exec.Command("go", args...).CombinedOutput() //nolint:noctx // it ends
	if err != nil {
		return fmt.Errorf("build sluice: %w: %s", err, out)
	}
	return errors.Join(os.Setenv(binaryVariable, filepath.Join(dir, "sluice")),
		os.Setenv(agentVariable, filepath.Join(dir, "sluice-agent")))
}
