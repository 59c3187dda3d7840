package directory_test

import (
	"os"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/process"
)

// superviseVariable makes the test program a supervisor of hooks, as sluice supervise is.
const superviseVariable = "TEST_SUPERVISE"

func TestMain(m *testing.M) {
	if os.Getenv(superviseVariable) != "" && len(os.Args) > 2 && os.Args[1] == "supervise" {
		grace, err := time.ParseDuration(os.Args[2])
		if err != nil {
			os.Exit(99)
		}
		code, err := process.Supervise(grace, os.Args[3:])
		if err != nil {
			os.Exit(98)
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}
