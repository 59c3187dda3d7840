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
		err = client.GetResource(ctx, a, requestPath(args[0], args[1]), &s)
		return s, err
	}
	var all debugapi.RequestList
	if err := client.GetResource(ctx, a, "/v1/debug-requests?cell="+url.QueryEscape(args[0]), &all); err != nil {
		return s, err
	}
	waiting := slices.DeleteFunc(all.Requests, func(s debugging.RequestStatus) bool {
		return !slices.Contains([]string{debugging.Sent, cells.DebugOpen, cells.DebugPermitted}, s.State)
	})
	slices.SortStableFunc(waiting, func(a, b debugging.RequestStatus) int { return b.Made.Compare(a.Made) })
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
