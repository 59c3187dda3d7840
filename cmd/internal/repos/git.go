package repos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// gitTimeout bounds one run of the git command, and connecting to the SSH agent.
const gitTimeout = 30 * time.Second

// RunGit runs git in dir (empty: the working folder) and returns the output without its line end. Of the environment,
// git gets what is git's own too: in a hook, it says which repository is meant.
func RunGit(ctx context.Context, a *cli.App, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = dir, gitrepo.BaseEnv(a.Env)
	for _, entry := range a.Env {
		if strings.HasPrefix(entry, "GIT_") || strings.HasPrefix(entry, "EMAIL=") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", gitrepo.ErrNoGit
		}
		said := strings.TrimSpace(stderr.String())
		err = fmt.Errorf("git %s: %w: %s", args[0], err, said)
		if at := strings.Index(said, "git config --global --add safe.directory"); at >= 0 { // dubious ownership
			err = cli.Fail(err, "if you trust that folder: %s", said[at:])
		}
		return "", err
	}
	return strings.TrimRight(out.String(), "\r\n"), nil
}

// identLine matches the output of git var: name, address, time.
var identLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(.*) <([^>]*)> \d+ [+-]\d{4}$`) })

// FindAuthor returns the person in whose name a verb commits, as git determines it.
func FindAuthor(ctx context.Context, a *cli.App) (releases.Person, error) {
	line, err := RunGit(ctx, a, "", "var", "GIT_AUTHOR_IDENT")
	if errors.Is(err, gitrepo.ErrNoGit) {
		return releases.Person{}, err
	}
	m := identLine().FindStringSubmatch(line)
	if err != nil || m == nil || m[1] == "" || m[2] == "" {
		return releases.Person{}, cli.Fail(errors.New("git does not know who you are"),
			`git config --global user.name "Ada Lovelace" && git config --global user.email ada@example.com`)
	}
	return releases.Person{Name: m[1], Email: m[2]}, nil
}

// FindSigner returns the SSH key that signs the caller's commits: file if given, else the key that git's
// user.signingKey names, else one of wanted (authorized_keys lines) that the SSH agent holds; nil: none.
func FindSigner(ctx context.Context, a *cli.App, file string, wanted []string) (*gitrepo.SSHSigner, error) {
	if file == "" {
		if form, err := RunGit(ctx, a, "", "config", "gpg.format"); err == nil && form == "ssh" {
			if key, err := RunGit(ctx, a, "", "config", "--type=path", "user.signingKey"); err == nil {
				file = key
			}
		}
	}
	literal, isLiteral := strings.CutPrefix(file, "key::")
	switch {
	case isLiteral || strings.HasPrefix(file, "ssh-"):
		return findAgentSigner(a, []string{literal})
	case file == "":
		return findAgentSigner(a, wanted)
	case strings.HasSuffix(file, ".pub"):
		if _, err := os.Stat(strings.TrimSuffix(file, ".pub")); err != nil {
			public, err := cli.ReadSmallFile(file)
			if err != nil {
				return nil, fmt.Errorf("read SSH key: %w", err)
			}
			return findAgentSigner(a, []string{string(public)})
		}
		file = strings.TrimSuffix(file, ".pub")
	}
	s, err := gitrepo.LoadSigner(file)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// findAgentSigner returns the first of wanted (authorized_keys lines) that the SSH agent holds; nil: none, or
// no agent.
func findAgentSigner(a *cli.App, wanted []string) (*gitrepo.SSHSigner, error) {
	socket := a.Getenv("SSH_AUTH_SOCK")
	if socket == "" || len(wanted) == 0 {
		return nil, nil
	}
	conn, err := net.DialTimeout("unix", socket, gitTimeout)
	if err != nil {
		return nil, nil // a stale socket counts as no agent
	}
	// The connection stays open until the process ends: the signer uses it.
	keys, err := agent.NewClient(conn).Signers()
	if err != nil {
		return nil, fmt.Errorf("ask the SSH agent for its keys: %w", err)
	}
	for _, line := range wanted {
		for _, k := range keys {
			if isListed(k.PublicKey(), []string{line}) {
				return &gitrepo.SSHSigner{Key: k}, nil
			}
		}
	}
	return nil, nil
}

// isListed reports whether lines, as in authorized_keys, contain a key.
func isListed(key ssh.PublicKey, lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		return err == nil && bytes.Equal(key.Marshal(), public.Marshal())
	})
}

// FolderKind is the kind of git repository in a local folder.
type FolderKind int

const (
	NotGit   FolderKind = iota
	BareGit             // the repository itself
	Worktree            // the top of a worktree
)

// FindFolderKind returns what kind of git repository a local folder is.
func FindFolderKind(dir string) FolderKind {
	if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		return Worktree
	}
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return NotGit
		}
	}
	return BareGit
}

// IsRemote reports whether an address is a URL and not a folder, by git clone's rules.
func IsRemote(address string) bool {
	if _, err := os.Stat(address); err == nil {
		return false
	}
	if strings.Contains(address, "://") {
		return true
	}
	host, _, scp := strings.Cut(address, ":")
	return scp && host != "" && !strings.Contains(host, "/")
}

// CheckWorktree refuses a worktree without files that its branch has: what refers to them would be a fault.
func CheckWorktree(ctx context.Context, a *cli.App, dir string) error {
	sparse, err := RunGit(ctx, a, dir, "config", "--type=bool", "core.sparseCheckout")
	if err != nil || sparse != "true" {
		return nil //nolint:nilerr // without the setting, git fails
	}
	list, err := RunGit(ctx, a, dir, "ls-files", "-t")
	if err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		if name, skipped := strings.CutPrefix(strings.TrimSpace(line), "S "); skipped {
			return cli.Fail(fmt.Errorf("it is a sparse checkout, which lacks files of the branch, such as %s", name),
				"git -C %s sparse-checkout disable; or name a bare clone or a URL, whose branch is read then",
				words.Shell(dir))
		}
	}
	return nil
}
