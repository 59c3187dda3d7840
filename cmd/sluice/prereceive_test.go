package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/releasecmd"
)

// A push of very many refs must not carry the release branch past the end of the hook's input.
func TestPreReceiveRefusesWhatItCannotReadWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r.git")
	if out, err := exec.Command("git", "init", "-q", "--bare", "--initial-branch=main",
		dir).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	zero, some := strings.Repeat("0", 40), strings.Repeat("1", 40)
	line := zero + " " + some + " refs/tags/" + strings.Repeat("x", 200) + "\n"
	push := strings.Repeat(line, releasecmd.MaxPushBytes/len(line)+1) + zero + " " + some + " refs/heads/main\n"
	var said bytes.Buffer
	code := run(context.Background(), []string{"validate", "--pre-receive", dir}, os.Environ(),
		strings.NewReader(push), &said, &said)
	if code != cli.ExitFailed || !strings.Contains(said.String(), "too many refs") {
		t.Errorf("exit code %d: %s", code, said.String())
	}
}
