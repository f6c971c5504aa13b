package report

func (r *Report) plots() map[string]string { return nil }
