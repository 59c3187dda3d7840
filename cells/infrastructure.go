package cells

import (
	"fmt"
	"io/fs"
	"net/mail"
	"path"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// InfrastructureFile names the file of a cell's InfrastructureRecord in the cell's folder.
const InfrastructureFile = "infrastructure.yaml"

// maxInfrastructureNotices bounds the notices of one record.
const maxInfrastructureNotices = 100

// InfrastructureRecord is the content of cells/NAME/infrastructure.yaml: which infrastructure updates the cell's
// contact was notified of, and by when each is due. Only the engine and owners write it.
type InfrastructureRecord struct {
	APIVersion string                 `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string                 `yaml:"kind" json:"kind" required:"true" enum:"InfrastructureRecord"`
	Exempt     string                 `yaml:"exempt,omitempty" json:"exempt,omitempty" doc:"why the cell needs no infrastructure update; none: it does"`
	Updates    []InfrastructureNotice `yaml:"updates,omitempty" json:"updates,omitempty" doc:"one for each update that was notified, by number"`
}

// InfrastructureNotice says that a cell's contact was notified of an update.
type InfrastructureNotice struct {
	Number    int       `yaml:"number" json:"number" required:"true" minimum:"1" maximum:"1000000"`
	Noticed   time.Time `yaml:"noticed" json:"noticed" required:"true" doc:"when the notice was sent"`
	By        string    `yaml:"by" json:"by" required:"true" doc:"how, and to whom"`
	Delivered time.Time `yaml:"delivered,omitempty" json:"delivered,omitzero" doc:"when it was delivered; none: it was not, and no deadline runs"`
	// Fixed in UTC at the notice: neither a later policy nor a cell without contact moves it
	Due       time.Time  `yaml:"due,omitempty" json:"due,omitzero" doc:"the instant from which on the cell is out of support without the update"`
	Extension *Extension `yaml:"extension,omitempty" json:"extension,omitempty"`
}

// Extension moves a deadline to a later instant.
type Extension struct {
	Until    time.Time `yaml:"until" json:"until" required:"true"`
	Reason   string    `yaml:"reason" json:"reason" required:"true"`
	Approver string    `yaml:"approver" json:"approver" required:"true" doc:"who granted it"`
}

// Contact is a person or a mailbox of the customer's.
type Contact struct {
	Name  string `yaml:"name" json:"name" required:"true"`
	Email string `yaml:"email" json:"email" required:"true"`
	Zone  string `yaml:"zone" json:"zone,omitempty" doc:"the time zone that messages to the contact use; default UTC"`
}

// MaxContacts is how many contacts a cell may have.
const MaxContacts = 16

// Location returns the contact's time zone.
func (c Contact) Location() *time.Location {
	if zone, err := time.LoadLocation(c.Zone); err == nil {
		return zone
	}
	return time.UTC
}

func checkContacts(d *manifest.Doc[Cell]) (faults []releases.Fault) {
	all := d.Value.Contacts
	if len(all) > MaxContacts {
		return []releases.Fault{d.Fault(manifest.TooLarge, "contacts", "%d contacts: at most %d are read", len(all),
			MaxContacts)}
	}
	for i, c := range all {
		at := fmt.Sprintf("contacts[%d]", i)
		if a, err := mail.ParseAddress(c.Email); c.Email != "" && (err != nil || a.Address != c.Email) {
			faults = append(faults, d.Fault(manifest.WrongValue, at+".email",
				"%.100q is not an e-mail address", c.Email))
		}
		if _, err := time.LoadLocation(c.Zone); err != nil || c.Zone == "Local" {
			faults = append(faults, d.Fault(manifest.WrongValue, at+".zone",
				"%.70q is not a time zone, such as Europe/Berlin", c.Zone))
		}
	}
	return faults
}

// DueAt returns the instant of the deadline, with its extension; zero: none runs.
func (n *InfrastructureNotice) DueAt() time.Time {
	if n.Extension != nil && !n.Due.IsZero() {
		return n.Extension.Until
	}
	return n.Due
}

// Notice returns the notice of an update; nil: there is none.
func (r *InfrastructureRecord) Notice(number int) *InfrastructureNotice {
	i := slices.IndexFunc(r.Updates, func(n InfrastructureNotice) bool { return n.Number == number })
	if i < 0 {
		return nil
	}
	return &r.Updates[i]
}

// loadInfrastructure reads a cell's record. nil: there is none, or it has faults.
func loadInfrastructure(fsys fs.FS, cell string) (*InfrastructureRecord, []releases.Fault) {
	return manifest.Load(nil, fsys, path.Join(Dir, cell, InfrastructureFile), validateInfrastructure)
}

func validateInfrastructure(d *manifest.Doc[InfrastructureRecord]) (faults []releases.Fault) {
	faults = d.RefuseEmpty()
	all := d.Value.Updates
	if len(all) > maxInfrastructureNotices {
		return append(faults, d.Fault(manifest.TooLarge, "updates", "%d updates: at most %d are read", len(all),
			maxInfrastructureNotices))
	}
	for i := range all {
		n, at := &all[i], fmt.Sprintf("updates[%d]", i)
		fault := func(code manifest.FaultCode, field, format string, args ...any) {
			faults = append(faults, d.Fault(code, at+field, format, args...))
		}
		if slices.ContainsFunc(all[:i], func(o InfrastructureNotice) bool { return o.Number == n.Number }) {
			fault(manifest.Duplicate, ".number", "%d is there twice", n.Number)
		}
		switch {
		case n.Delivered.IsZero() != n.Due.IsZero():
			fault(manifest.Conflict, "", "delivered and due go together: a notice that was not delivered has no deadline")
		case n.Delivered.IsZero():
			if n.Extension != nil {
				fault(manifest.Conflict, ".extension", "there is no deadline to extend")
			}
			continue
		case n.Delivered.Before(n.Noticed):
			fault(manifest.Conflict, ".delivered", "was delivered before it was noticed")
		case !n.Due.After(n.Delivered):
			fault(manifest.Conflict, ".due", "due is not after delivered")
		}
		if e := n.Extension; e != nil && !e.Until.After(n.Due) {
			fault(manifest.Conflict, ".extension.until", "an extension ends after the deadline that it extends")
		}
	}
	return faults
}
