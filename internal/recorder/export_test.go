package recorder

// AfterCommits makes the applier call a function after each commit to the journal.
func (a *Applier) AfterCommits(f func()) { a.after = f }

// PageSize is pageSize.
const PageSize = pageSize
