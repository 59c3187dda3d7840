package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells/agent/plane"
)

// PresentName returns the name that the cell of a state folder has now, if name is one that it had before it was renamed;
// else name.
func PresentName(stateDir, name string) (string, error) {
	c, err := plane.LoadCredentials(stateDir, "", nil)
	if err != nil || !c.HadName(name) {
		return name, err
	}
	return c.Cell(), nil
}

// stateNames are the names in a state folder that an agent, or its owner's commands, may have made before the agent has
// an identity or a journal; and what a new file system has.
var stateNames = []string{OwnerFile, "owner.lock", "clock.json", "clock-reset", "flags", "flags.json", "inforce.json",
	"lock", "lost+found", "offered.json", "outbox", "releases", "rendered", "work"}

// refuseForeignFolder refuses a state folder with files of others: the agent would close it to them, and would remove
// old files from some of its folders. With an identity or a journal the folder is the agent's.
func refuseForeignFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var foreign []string
	for _, e := range entries {
		name := e.Name()
		base, _, _ := strings.Cut(name, ".damaged-")
		switch {
		case base == "identity.json" || base == "journal.json":
			return nil
		case !slices.Contains(stateNames, base) && !strings.HasPrefix(name, ".new-"):
			foreign = append(foreign, name)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	more := ""
	if n := len(foreign) - 5; n > 0 {
		foreign, more = foreign[:5], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("the state folder %s holds %s%s, which no agent made: name an empty folder with --state", dir,
		strings.Join(foreign, ", "), more)
}
