package channels

import (
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

const (
	// Dir is the folder of all channels in a release repository.
	Dir = "channels"
	// QuarantineDir is the folder of all quarantines.
	QuarantineDir = "quarantine"
)

// Set is the state of all channels at a commit.
type Set struct {
	Pipeline Pipeline // with defaults; nothing but defaults if sluice.yaml has faults
	// of sluice.yaml and the folders that every channel needs: they make all channels invalid
	PipelineFaults []manifest.Fault
	Channels       map[string]*State // by name, one for each folder below channels
	Quarantines    []Quarantine      // by release; a quarantine that can't be read has no digest: see Stops
}

func policyFile(name string) string { return path.Join(Dir, name, "channel.yaml") }

// Load reads sluice.yaml, the channels' folders and the quarantines. It returns every fault that it found, warnings
// included, in order; the Set says what each fault stops. One channel's faults never stop another channel (R6),
// sluice.yaml's stop all. c may be nil. With a cache, whatever has an object id and did not change is not read again;
// the result is then shared with other sets, and so immutable.
func Load(c *manifest.Cache, fsys fs.FS) (Set, []manifest.Fault) {
	set := Set{Channels: map[string]*State{}}
	set.Pipeline, set.PipelineFaults = loadPipeline(c, fsys)
	folders, faults := listFolder(fsys, Dir)
	_, more := listFolder(fsys, QuarantineDir) // an unlisted quarantine could stop any release
	set.PipelineFaults = slices.Concat(set.PipelineFaults, faults, more)
	all := slices.Clone(set.PipelineFaults)
	policies := map[string]*Channel{}
	for _, entry := range folders {
		if !entry.IsDir() {
			all = append(all, unusedEntryFault(Dir, entry))
			continue
		}
		s := loadState(c, fsys, entry)
		set.Channels[s.Name] = s
		if s.Policy != nil {
			policies[s.Name] = s.Policy
		}
	}
	exists := func(name string) bool { return set.Channels[name] != nil }
	all = append(all, checkAccessReferences(&set.Pipeline, exists)...)
	for _, s := range set.Channels {
		s.checkReferences(&set, policies, exists)
		all = slices.Concat(all, s.Faults, s.HeadFaults, s.Ignored)
	}
	set.Quarantines, faults = loadQuarantines(c, fsys, exists)
	return set, manifest.Sort(append(all, faults...))
}

// ParsePolicy reads one channel's policy alone, from any commit. It validates the policy by itself, but not its
// references to other files. It serves the last valid policy of a channel whose newest policy is invalid (R6). c may be
// nil.
func ParsePolicy(c *manifest.Cache, fsys fs.FS, name string) (*Channel, []manifest.Fault) {
	file := policyFile(name)
	p, faults := manifest.Load(c, fsys, file, preparePolicy)
	if p == nil {
		if len(faults) == 0 {
			faults = []manifest.Fault{{File: file, Code: manifest.Missing,
				Message: "is missing: a channel needs a policy"}}
		}
		return nil, faults
	}
	withBlob := *p
	withBlob.Blob = blobID(fsys, file)
	return &withBlob, faults
}

// Stops reports whether the quarantine stops a release in a channel. A quarantine that can't be read stops the release
// that its file is named after, everywhere: a mistyped quarantine must not mean that there is none.
func (q Quarantine) Stops(channel, release string, digest releases.Digest) bool {
	if len(q.Channels) > 0 && !slices.Contains(q.Channels, channel) {
		return false
	}
	if q.Digest == "" {
		return q.Release == release
	}
	return q.Digest == digest
}

// Why returns why the release is quarantined, and who says so unless it is the engine.
func (q Quarantine) Why() string { return whyBy(q.Reason, q.By) }

// Why returns why the hold is there, and who says so unless it is the engine.
func (h Hold) Why() string { return whyBy(h.Reason, h.By) }

func whyBy(reason, by string) string {
	if by == "" || by == EngineName {
		return reason
	}
	return reason + " (" + by + ")"
}

// EngineName is what the engine calls itself where a file says by whom it is.
const EngineName = "sluice"

// checkReferences checks the channel's references to other files, which the folder's object id does not cover, and
// decides whether the channel is valid.
func (s *State) checkReferences(set *Set, policies map[string]*Channel, exists func(string) bool) {
	var people *Pipeline
	if manifest.Fatal(set.PipelineFaults) {
		fatal, _ := splitWarnings(set.PipelineFaults)
		s.Faults = slices.Concat(s.Faults, fatal)
	} else {
		people = &set.Pipeline
	}
	if s.Policy != nil {
		s.Faults = slices.Concat(s.Faults, checkPolicyReferences(s.Policy, policies, exists, people))
	}
	for _, a := range s.Approvals {
		if people != nil && people.People[a.Person] == nil {
			s.Ignored = append(slices.Clip(s.Ignored), manifest.Fault{File: a.File, Warning: true,
				Code:    manifest.UnknownReference,
				Message: fmt.Sprintf("does not count: %s does not list %s in people", pipelineFile, a.Person)})
		}
	}
	if len(s.Faults) > 0 {
		s.Policy = nil
	}
}
