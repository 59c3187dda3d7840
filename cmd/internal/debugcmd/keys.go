package debugcmd

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/controlplane/debugapi"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// loadKey is what to do when a key is not here.
const loadKey = "name its file (--key FILE), or load it into the SSH agent (ssh-add)"

// findKey returns the key that signed a request, which sluice.yaml lists for its person; nil: it is not here.
type findKey func(s debugging.RequestStatus) (*gitrepo.SSHSigner, error)

// keyFinder returns what finds keys: in a file if it is named, else in the SSH agent, and as git's user.signingKey.
func keyFinder(a *cli.App, cmd *cobra.Command, file string) (findKey, error) {
	ctx := cmd.Context()
	known, err := repos.ReleaseRepository().ReadSnapshot(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	return func(s debugging.RequestStatus) (*gitrepo.SSHSigner, error) {
		for _, line := range known.People()[s.Person].Keys {
			key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil || ssh.FingerprintSHA256(key) != s.Key {
				continue
			}
			for _, where := range places(file, line) {
				signer, err := repos.FindSigner(ctx, a, where, nil)
				switch {
				case err != nil && file != "":
					return nil, err
				case err == nil && signer != nil && ssh.FingerprintSHA256(signer.Key.PublicKey()) == s.Key:
					return signer, nil
				}
			}
		}
		return nil, nil
	}, nil
}

// places returns where a key is looked for.
func places(file, line string) []string {
	if file != "" {
		return []string{file}
	}
	return []string{"key::" + line, ""} // the SSH agent; git's
}

// withFingerprint returns the key of a cell that has the fingerprint that the cell's owner told; empty: all of them.
func withFingerprint(keys []ed25519.PublicKey, cell, want string) ([]ed25519.PublicKey, error) {
	var has []string
	for _, key := range keys {
		is := debug.Fingerprint(key)
		if has = append(has, is); is == want {
			return []ed25519.PublicKey{key}, nil
		}
	}
	if want == "" {
		return keys, nil
	}
	return nil, cli.Fail(fmt.Errorf("the release repository has another key of cell %s, %s: whoever answers may not be the "+
		"cell", cell, strings.Join(has, " and ")), "ask the cell's owner for the fingerprint: sluice cell debug show")
}

// findRequest returns the request with an ID; without one, the newest for the cell whose session may still begin, and
// whose key is here: the control plane shows other people's requests, too.
func findRequest(
	ctx context.Context, a *cli.App, args []string, find findKey,
) (s debugging.RequestStatus, err error) {
	if len(args) > 1 {
		return loadRequest(ctx, a, args[0], args[1])
	}
	waiting, err := listRequests(ctx, a, args[0])
	if err != nil {
		return s, err
	}
	waiting = slices.DeleteFunc(waiting, func(s debugging.RequestStatus) bool {
		return !slices.Contains([]string{debugging.Sent, cells.DebugOpen, cells.DebugPermitted}, s.State)
	})
	slices.Reverse(waiting)
	for _, one := range waiting {
		switch key, err := find(one); {
		case err != nil:
			return s, err
		case key != nil:
			return one, nil
		}
	}
	if len(waiting) > 0 {
		return s, cli.Fail(fmt.Errorf("no key here signed a request for cell %s that waits for a session; "+
			"the newest is %s, by %s with key %s", args[0], waiting[0].ID, waiting[0].Person, waiting[0].Key),
			"%s; with --stdio, name the request's ID", loadKey)
	}
	return s, cli.Fail(fmt.Errorf("no request for cell %s waits for a session", args[0]),
		"sluice debug request %s makes one, sluice debug list %s shows what became of others", args[0], args[0])
}

// listRequests returns the requests of a cell, the oldest first; empty: of all cells. The control plane does not choose
// another cell (D4).
func listRequests(ctx context.Context, a *cli.App, cell string) ([]debugging.RequestStatus, error) {
	all := []debugging.RequestStatus{}
	q := url.Values{"cell": {cell}}
	err := client.EachPage(ctx, a, "/v1/debug-requests", q, func(page debugapi.RequestList) string {
		all = append(all, page.Requests...)
		return page.Next
	})
	all = slices.DeleteFunc(all, func(s debugging.RequestStatus) bool { return cell != "" && s.Cell != cell })
	slices.SortStableFunc(all, func(a, b debugging.RequestStatus) int { return a.Made.Compare(b.Made) })
	return all, err
}

// loadRequest returns one request as the control plane shows it.
func loadRequest(ctx context.Context, a *cli.App, cell, id string) (s debugging.RequestStatus, err error) {
	if err = client.GetResource(ctx, a, requestPath(cell, id), &s); err == nil {
		err = checkSubject(s, cell, id)
	}
	return s, err
}

// checkSubject refuses an answer about another request than the one that was asked for: else the control plane would
// choose which cell a person opens, and whose record is compared with its seal (D4).
func checkSubject(s debugging.RequestStatus, cell, id string) error {
	if s.Cell == cell && s.ID == id {
		return nil
	}
	return cli.Fail(fmt.Errorf("the control plane was asked about request %s of cell %s, and answered about request "+
		"%s of cell %s: nothing was opened", id, cell, s.ID, s.Cell), "find out who changed the control plane, first")
}

// knownHostsHead is the first line of files that writeKnownHosts wrote.
const knownHostsHead = "# Written by sluice debug connect, which replaces it: add nothing.\n"

// writeKnownHosts writes a line into a file for ssh, and replaces no file that it did not write.
func writeKnownHosts(name, line string) error {
	before, err := cli.ReadSmallFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(before) > 0 && !strings.HasPrefix(string(before), knownHostsHead):
		return cli.Fail(fmt.Errorf("%s exists, and is not of sluice debug connect: nothing was written", name),
			"name a file of its own with --known-hosts and UserKnownHostsFile, such as ~/.ssh/cell-acme")
	}
	return disk.ReplaceFile(name, []byte(knownHostsHead), []byte(line+"\n"))
}
