package gitrepo

import (
	"errors"
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
	if want := "subject " + clean + "\n\nReason: " + clean + `\x00\xff` + "\nKey: https://h"; strings.TrimSpace(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// R54: what a hook of the repository prints is quoted in errors, and those reach logs and terminals.
func TestR54HookOutputIsClean(t *testing.T) {
	bare, _ := newSharedRepository(t)
	writeHook(t, bare, "pre-receive", "cat >/dev/null; printf 'no: \\033[2J\\342\\200\\256x\\n::error::y\\n' >&2; exit 1")
	r := openRepo(t, bare, nil)
	_, err := r.Push(t.Context(), mustFetch(t, r), headDraft("x"))
	var refused *releases.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Reason, `no: \x1b[2J\u202ex; ::error::y`) {
		t.Fatalf("got %q", err)
	}
}
