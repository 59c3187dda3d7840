package gitrepo

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/internal/cleantext"
)

// maxMessage bounds the text from a host or a child process that is kept and shown to people, in bytes.
const maxMessage = 1 << 10

// terminationGrace is the time that a child process has to clean up after SIGTERM: git-receive-pack killed at once
// would leave the locks of a shared repository behind.
const terminationGrace = 2 * time.Second

// gitCommand prepares a child process that runs git, as the leader of a process group. When ctx ends, the whole group,
// hooks included, gets SIGTERM. Wait with waitCommand.
func gitCommand(ctx context.Context, git string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, git, args...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = terminationGrace
	return cmd
}

// waitCommand waits for a command's end. If ctx ended, it kills the rest of the process group.
func waitCommand(ctx context.Context, cmd *exec.Cmd) error {
	err := cmd.Wait()
	if ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // usually no process is left
	}
	return err
}

// BaseEnv returns those variables of env that git, its hooks and its helpers get (R54). Hooks are programs of whoever
// owns the repository, so nothing else passes: a process that serves has secrets in its environment, and a proxy's
// address may hold a password. No GIT_ variable passes either.
func BaseEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
			"XDG_CONFIG_HOME", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR":
			return false
		}
		return !strings.HasPrefix(name, "SSH_")
	})
}

// hostGitEnv is the environment of children that work on someone else's repository: the owner's settings and hooks
// apply, and our own GIT_ variables (which repository, which index) do not.
func hostGitEnv() []string { return append(BaseEnv(os.Environ()), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C") }

// ownGitEnv is the environment of children that work on our own repository: no settings from elsewhere, no network, no
// prompts, no hooks.
func ownGitEnv(dir string) []string {
	env := []string{
		"GIT_DIR=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=none", "GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1",
		"GIT_DEFAULT_HASH=sha1", "GIT_DEFAULT_REF_FORMAT=files", "LC_ALL=C",
		"GIT_CONFIG_COUNT=3",
		"GIT_CONFIG_KEY_0=core.hooksPath", "GIT_CONFIG_VALUE_0=" + os.DevNull,
		"GIT_CONFIG_KEY_1=core.bigFileThreshold", "GIT_CONFIG_VALUE_1=8m",
		"GIT_CONFIG_KEY_2=gc.auto", "GIT_CONFIG_VALUE_2=0",
	}
	for _, name := range []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// runGit runs git to its end. The output is bounded; the error quotes stderr.
func runGit(ctx context.Context, git string, env []string, in io.Reader, args ...string) (string, error) {
	cmd := gitCommand(ctx, git, env, args...)
	stdout, stderr := &tailBuffer{limit: 64 << 10}, &tailBuffer{limit: maxMessage}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, stdout, stderr
	err := cmd.Start()
	if err == nil {
		err = waitCommand(ctx, cmd)
	}
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("git %s: %w", args[0], context.Cause(ctx))
	case err != nil:
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, stderr)
	}
	return strings.TrimSpace(stdout.text()), nil
}

// tailBuffer keeps the last bytes written to it. Safe for several goroutines.
type tailBuffer struct {
	limit int

	mu   sync.Mutex
	kept []byte
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[max(0, len(p)-t.limit):]...)
	if over := len(t.kept) - t.limit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tailBuffer) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

// String returns the text on one line, clean (R54).
func (t *tailBuffer) String() string { return oneLine(t.text()) }

func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(c rune) bool { return c == '\n' || c == '\r' })
	for i, l := range lines {
		lines[i] = cleantext.Line(strings.TrimSpace(l))
	}
	joined := strings.Trim(strings.Join(lines, "; "), "; ")
	if len(joined) > maxMessage {
		joined = strings.ToValidUTF8(joined[:maxMessage], "") + "…"
	}
	return joined
}
