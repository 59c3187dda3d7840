package announce

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/flags/repository"
)

// commitKills gathers all kills, and adds a write for each one without a file (R43). A stored kill counts already. An
// Until in the past ends no kill.
func (p *planner) commitKills() {
	taken := map[string]repository.Override{}
	for _, o := range p.input.Tip.Overrides {
		taken[o.Name] = o
		if o.Kind == repository.Kill {
			p.kills = append(p.kills, o)
		}
	}
	stored := slices.Clone(p.input.Kills)
	slices.SortFunc(stored, func(a, b repository.Override) int {
		return cmp.Or(cmp.Compare(a.Flag, b.Flag), cmp.Compare(a.Reason, b.Reason))
	})
	for _, k := range stored {
		k.APIVersion, k.Kind, k.Announcement = "sluice/v1", repository.Kill, ""
		if slices.ContainsFunc(p.kills, func(o repository.Override) bool { return sameKill(o, k) }) {
			continue
		}
		k.Name = killFileName(k, taken)
		taken[k.Name] = repository.Override{Kind: repository.Hold} // reserves the name within this plan
		p.kills = append(p.kills, k)
		why := "kill " + k.Flag + ": " + oneLine(k.Reason)
		if k.By != "" {
			why += " (by " + oneLine(k.By) + ")"
		}
		p.addWrite(path.Join(repository.OverridesDir, k.Name+".yaml"), k, why)
	}
	slices.SortStableFunc(p.kills, func(a, b repository.Override) int {
		return cmp.Or(cmp.Compare(a.Flag, b.Flag), cmp.Compare(a.Name, b.Name))
	})
}

// sameKill reports whether two kills are equal apart from their file names.
func sameKill(a, b repository.Override) bool {
	return a.Flag == b.Flag && a.Reason == b.Reason && a.By == b.By && a.Until.Equal(b.Until) &&
		sameCells(a.Cells, b.Cells)
}

func sameCells(a, b repository.Selector) bool {
	return slices.Equal(a.Names, b.Names) && slices.Equal(a.Channels, b.Channels) &&
		(len(a.Labels)+len(b.Labels) == 0 || reflect.DeepEqual(a.Labels, b.Labels))
}

// killFileName names a kill's file. The new file replaces only a kill of the same flag in the same cells, so that no
// kill is lifted.
func killFileName(k repository.Override, taken map[string]repository.Override) string {
	name := "kill-" + k.Flag
	if strings.ContainsFunc(k.Flag, func(r rune) bool { return !strings.ContainsRune(fileNameChars, r) }) {
		sum := sha256.Sum256([]byte(k.Flag))
		name = "kill-" + hex.EncodeToString(sum[:6])
	}
	for n, free := 2, name; ; n++ {
		o, ok := taken[free]
		if !ok || o.Kind == repository.Kill && o.Flag == k.Flag && sameCells(o.Cells, k.Cells) {
			return free
		}
		free = name + "-" + strconv.Itoa(n)
	}
}

// fileNameChars are valid in file names on every system.
const fileNameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
