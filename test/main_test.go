package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluice-cd/sluice/test/child"
	"github.com/sluice-cd/sluice/test/postgres"
)

// binaryVariable names the binary that the tests run, which TestMain builds once.
const binaryVariable = "SLUICE_TEST_BINARY"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-test-")
	if err == nil {
		err = buildBinary(filepath.Join(dir, "sluice"))
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

func buildBinary(binary string) error {
	args := []string{"build", "-o", binary}
	if child.RaceDetector {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, module+"/cmd/sluice")...).CombinedOutput() //nolint:noctx
	if err != nil {
		return fmt.Errorf("build sluice: %w: %s", err, out)
	}
	return os.Setenv(binaryVariable, binary)
}
