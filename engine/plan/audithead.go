package plan

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

const (
	// AuditFile says how far the audit's chain is. The engine writes it once a day.
	AuditFile = "audit/head.yaml"
	// AuditPushes is what refused pushes of AuditFile are kept under in Observed.Refused: no channel has such a name.
	AuditPushes = "audit/"

	keepAuditHeads = 1000
)

// AuditHead is the content of AuditFile: the newest row of the audit at an instant. It stands for all rows up to there,
// so that whoever has the repository finds that the database has others.
type AuditHead struct {
	Row    int64     `yaml:"row" json:"row" required:"true" doc:"the newest row's number"`
	Hash   string    `yaml:"hash" json:"hash" required:"true" doc:"its hash, as sluice audit export prints it"`
	At     time.Time `yaml:"at" json:"at" required:"true" doc:"when that was"`
	Commit string    `yaml:"-" json:"-"` // has the file
}

// AuditChain is how far the audit is in the store.
type AuditChain struct {
	Row  int64
	Hash string
	Open time.Time // when the first row was written that no commit stands for yet; zero: there is none
}

// LastAuditHead returns the newest head of the audit that was committed; zero: none was.
func (d *Desired) LastAuditHead() AuditHead {
	if n := len(d.AuditHeads); n > 0 {
		return d.AuditHeads[n-1]
	}
	return AuditHead{}
}

// commitAudit commits how far the audit is, once a UTC day, if there are rows of an earlier day that no commit stands
// for. Such a commit is alone in its plan: a host that refuses a head must not hold it up, nor the other way round. A
// store that has fewer rows than were committed was restored: its chain is left to sluice audit verify.
func (p *planner) commitAudit() {
	chain, last := p.observed.Audit, p.desired.LastAuditHead()
	if chain == nil || chain.Open.IsZero() || chain.Row <= last.Row || p.observed.Diverged != nil {
		return
	}
	due := nextUTCDay(chain.Open)
	if next := nextUTCDay(last.At); next.After(due) && !last.At.After(p.now) {
		due = next
	}
	if due.After(p.now) {
		p.replanAt(due)
		return
	}
	if p.hasCommits() || p.isUnlisted("", "") || p.isRefused(AuditPushes, reason.AuditRefused, "", "") {
		return
	}
	p.addAction(Action{Kind: CommitAudit, Reason: fmt.Sprintf("the audit has %d rows", chain.Row),
		audit: AuditHead{Row: chain.Row, Hash: chain.Hash, At: p.now}})
}

func nextUTCDay(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour) }

func (h AuditHead) encode() []byte {
	return fmt.Appendf(nil, "row: %d\nhash: %s\nat: %s\n", h.Row, h.Hash, h.At.UTC().Format(time.RFC3339))
}

func draftAudit(p Plan, a Action) releases.Draft {
	return releases.Draft{When: p.Now, Files: map[string][]byte{AuditFile: a.audit.encode()},
		Message: fmt.Sprintf("audit: row %d\n\nRows up to this one that are removed or changed are found by comparing "+
			"the audit with it:\nsluice audit verify --repo.\n\nAudit: %d %s\n%s: %s\n", a.audit.Row, a.audit.Row,
			a.audit.Hash, releases.BaseTrailer, p.Commit)}
}

var auditHash = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// foldAudit notes that the engine wrote AuditFile in c. What others write there does not count (R46).
func (h *History) foldAudit(c releases.Change, f releases.FileChange, trusted bool,
	open func(string) (fs.FS, error)) error {
	if !trusted || f.New == "" {
		return nil
	}
	files, err := open(c.Commit)
	if err != nil {
		return err
	}
	data, _ := fs.ReadFile(files, AuditFile)
	doc, faults := manifest.Decode[AuditHead](AuditFile, data)
	if manifest.Fatal(faults) || doc.Value.Row <= 0 || !auditHash.MatchString(doc.Value.Hash) {
		return nil
	}
	head := doc.Value
	head.Commit = c.Commit
	h.AuditHeads = append(h.AuditHeads[max(0, len(h.AuditHeads)+1-keepAuditHeads):], head)
	return nil
}

// checkAudit returns a fault if AuditFile is not as the engine wrote it.
func (b *builder) checkAudit() *releases.Fault {
	last := b.desired.LastAuditHead()
	data, err := fs.ReadFile(b.files, AuditFile)
	if !b.history.Authority.Enforced() || err != nil && last.Commit == "" ||
		last.Commit != "" && bytes.Equal(data, last.encode()) {
		return nil
	}
	f := &releases.Fault{File: AuditFile, Code: manifest.Forbidden,
		Message: "the engine did not write it: it does not count; remove it"}
	if last.Commit != "" {
		f.Message = fmt.Sprintf("is not as the engine wrote it in %s, which stands: put it back",
			words.ShortCommit(last.Commit))
	}
	return f
}
