package gitrepo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// obeyed is text that a terminal obeys or hides: escapes, also of one character, and a change of direction.
const obeyed = "\x1b]0;owned\a\x1b[2J\r\u009b8m\u202ehidden"

// R54: whoever wrote a commit's message, what git shows of it controls no terminal. Its lines stay.
func TestR54CommitMessagesAreClean(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	mustPush(t, r, mustFetch(t, r), draft("subject "+obeyed+"\n\nReason: "+obeyed+"\x00\xff\nKey: https://a:s3cret@h\n",
		map[string]string{"a": "b"}))
	got := gitIn(t, bare, "log", "-1", "--format=%B", "main")
	clean := `\x1b]0;owned\x07\x1b[2J\r\u009b8m\u202ehidden`
	want := "subject " + clean + "\n\nReason: " + clean + `\x00\xff` + "\nKey: https://h"
	if strings.TrimSpace(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// R54: what a hook of the repository prints is quoted in errors, and those reach logs and terminals.
func TestR54HookOutputIsClean(t *testing.T) {
	bare, _ := newSharedRepository(t)
	writeHook(t, bare, "pre-receive",
		"cat >/dev/null; printf 'no: \\033[2J\\342\\200\\256x\\n::error::y\\n' >&2; exit 1")
	r := openRepo(t, bare, nil)
	_, err := r.Push(t.Context(), mustFetch(t, r), headDraft("x"))
	var refused *releases.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Reason, `no: \x1b[2J\u202ex; ::error::y`) {
		t.Fatalf("got %q", err)
	}
}

// Secrets of a process that serves are not for the programs of a repository's owner.
func TestR54HooksGetNoSecrets(t *testing.T) {
	for name, value := range map[string]string{
		"SLUICE_HOOK_SECRET": "s3cret", "SLUICE_WEBHOOK_SECRETS": "s3cret", "SLUICE_GIT_TOKEN": "s3cret",
		"PGPASSWORD":      "s3cret",
		"SLUICE_DATABASE": "postgres://a:s3cret@h", "AWS_SECRET_ACCESS_KEY": "s3cret",
		"https_proxy": "http://a:s3cret@h", "GIT_CONFIG_PARAMETERS": "'a.b=s3cret'", "GIT_ASKPASS": "s3cret",
		"SSH_AUTH_SOCK": "/run/agent", "LANG": "C.UTF-8",
	} {
		t.Setenv(name, value)
	}
	bare, _ := newSharedRepository(t)
	for _, hook := range []string{"pre-receive", "update", "post-receive", "reference-transaction"} {
		writeHook(t, bare, hook, "cat >/dev/null; env >"+bare+"/env-"+hook)
	}
	r := openRepo(t, bare, nil)
	mustPush(t, r, mustFetch(t, r), headDraft("x")...)
	_ = r.Close() // waits for the hooks
	for _, hook := range []string{"pre-receive", "update", "post-receive", "reference-transaction"} {
		env, err := os.ReadFile(filepath.Join(bare, "env-"+hook))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(env), "s3cret") {
			t.Errorf("%s got a secret: %s", hook, env)
		}
		for _, want := range []string{"PATH=", "HOME=", "LANG=C.UTF-8", "SSH_AUTH_SOCK=/run/agent"} {
			if !strings.Contains(string(env), want) {
				t.Errorf("%s got no %s: %s", hook, want, env)
			}
		}
	}
}
