package selfupdate

import "fmt"

// Needed returns the images between which the step of a folder is not decided yet; empty: there is none.
func Needed(dir string) (from, to string, err error) {
	r, err := (records{dir}).load()
	if err != nil || r.Part != Agent || r.Phase == confirmed || r.Phase == restored {
		return "", "", err
	}
	return r.From, r.To, nil
}

// Chosen returns which image a machine runs as its agent where one is chosen: the one before, if the step to it was
// undone.
func (p *Part) Chosen(chosen string) (image string, err error) {
	r, err := p.records.load()
	if err != nil {
		return "", err
	}
	image, _ = r.start(chosen)
	return image, nil
}

// Start returns which image is started now where one is chosen, and counts that. watched says that this process is to
// start it again should it end: it is on trial. Of an image on trial that can't be counted, the one before is returned
// with the error.
func (p *Part) Start(chosen string) (image string, watched bool, err error) {
	for range maxStarts { // the agent may change the record meanwhile
		r, err := p.records.load()
		if err != nil {
			return "", false, err
		}
		image, next := r.start(chosen)
		if next == r {
			return image, false, nil
		}
		done, err := p.records.change(r, next)
		switch {
		case err != nil:
			return r.From, false, err
		case done && next.Phase == undone:
			p.options.Log.Warn().Str("from", r.From).Str("to", r.To).Int("starts", r.Starts).
				Msg("the new agent ended each time: the one before is put back")
			return image, false, nil
		case done:
			return image, true, nil
		}
	}
	return "", false, fmt.Errorf("count the start of %s: the record changes again and again", chosen)
}

// Watched reports whether an image is new, and did not say yet that it works.
func (p *Part) Watched(image string) bool {
	r, err := p.records.load()
	return err == nil && r.Part == Agent && r.To == image && (r.Phase == watched || r.Phase == undone)
}

// Forget removes the record: no step is under way any more.
func (p *Part) Forget() error {
	r, err := p.records.load()
	if err == nil && r != (Record{}) {
		_, err = p.records.change(r, Record{})
	}
	return err
}
