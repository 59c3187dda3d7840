package swarm

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
)

// Repository is a bare release repository in which people make commits as on a git host: by moving the branch with
// compare-and-swap. One goroutine at a time may use it.
type Repository struct {
	Dir string
}

const branchRef = "refs/heads/main"

// CreateRepository makes a bare repository in dir, which must not exist, with files and a cell for each member, in the
// channel that channel returns. The members are registered: identity.yaml has their keys.
func CreateRepository(ctx context.Context, dir string, files map[string]string, members []Member,
	channel func(i int) string) (*Repository, error) {
	r := &Repository{Dir: dir}
	if _, err := r.runGit(ctx, nil, "init", "-q", "--bare", "--template=", "-b", "main", dir); err != nil {
		return nil, err
	}
	all := maps.Clone(files)
	for i, m := range members {
		all["cells/"+m.Name+"/cell.yaml"] = "apiVersion: sluice/v1\nkind: Cell\nchannel: " + channel(i) + "\n"
		all["cells/"+m.Name+"/identity.yaml"] = IdentityFile(m)
	}
	if _, ok := all[".gitattributes"]; !ok {
		all[".gitattributes"] = "releases/** -text -filter -ident\n"
	}
	return r, r.writeCommit(ctx, branchRef, "", "begin", all)
}

// IdentityFile returns a member's identity.yaml: registered, epoch 1.
func IdentityFile(m Member) string {
	return "apiVersion: sluice/v1\nkind: Identity\nepoch: 1\nserial: 1\npublicKey: " + identity.FormatKey(m.Public()) +
		"\n"
}

// ReleaseFiles returns the files of a release with so many ConfigMaps of about 200 bytes.
func ReleaseFiles(version string, objects int) map[string]string {
	dir := "releases/" + version + "/"
	files := map[string]string{dir + "release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: " + version + "\n"}
	kustomization := "resources:\n"
	for i := range objects {
		name := fmt.Sprintf("part-%d", i)
		kustomization += "  - " + name + ".yaml\n"
		files[dir+name+".yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {version: " +
			version + ", text: " + strings.Repeat("x", 100) + "}\n"
	}
	files[dir+"kustomization.yaml"] = kustomization
	return files
}

// Commit puts files onto the branch in one commit; an empty file is removed. It returns the instant just before the
// branch moved. If the branch moves meanwhile, the commit is made again.
func (r *Repository) Commit(ctx context.Context, message string, files map[string]string) (time.Time, error) {
	const side = "refs/landing"
	var err error
	for range 50 {
		var base, next string
		if base, err = r.runGit(ctx, nil, "rev-parse", branchRef); err != nil {
			return time.Time{}, err
		}
		if err = r.writeCommit(ctx, side, base, message, files); err != nil {
			return time.Time{}, err
		}
		if next, err = r.runGit(ctx, nil, "rev-parse", side); err != nil {
			return time.Time{}, err
		}
		at := time.Now()
		if _, err = r.runGit(ctx, nil, "update-ref", branchRef, next, base); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q never landed: %w", message, err)
}

// writeCommit makes a commit on base, or a root commit if base is empty, and points ref to the commit.
func (r *Repository) writeCommit(ctx context.Context, ref, base, message string, files map[string]string) error {
	in, out := io.Pipe()
	go func() { // ends with git, which closes in
		b := bufio.NewWriterSize(out, 1<<20)
		fmt.Fprintf(b, "commit %s\ncommitter Ada <ada@example.com> %d +0000\ndata %d\n%s\n", ref, time.Now().Unix(),
			len(message), message)
		if base != "" {
			fmt.Fprintf(b, "from %s\n", base)
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if text := files[name]; text != "" {
				fmt.Fprintf(b, "M 100644 inline %s\ndata %d\n%s\n", name, len(text), text)
			} else {
				fmt.Fprintf(b, "D %s\n", name)
			}
		}
		out.CloseWithError(b.Flush())
	}()
	_, err := r.runGit(ctx, in, "fast-import", "--quiet", "--force")
	_ = in.Close()
	return err
}

func (r *Repository) runGit(ctx context.Context, in io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_DIR="+r.Dir)
	cmd.Stdin = in
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, complaint.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func (r *Repository) Tip(ctx context.Context) (string, error) {
	return r.runGit(ctx, nil, "rev-parse", branchRef)
}
