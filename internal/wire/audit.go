package wire

// MethodAudit reads the newest part of a control process's record of what was asked of it: operator -> control: AuditRequest ->
// AuditPage.
const MethodAudit = "control.audit"

// AuditRequest asks for the newest entries.
type AuditRequest struct {
	Limit uint32 // 1 to AuditLinesMax entries
}

// AuditPage has entries as they were written, one JSON object each, the oldest first.
type AuditPage struct {
	Lines []string
	Lost  uint64 // entries that could not be written since the process started
	Off   bool   // the process keeps no record
}

// Bounds of the messages above. A page is cut where it would be larger than its bytes, newest entries first.
const (
	AuditLinesMax     = 1000
	AuditLineBytesMax = 256 << 10
	AuditPageBytesMax = 1 << 20
)

// Append adds [limit].
func (m *AuditRequest) Append(b []byte) []byte { return AppendUint(AppendArray(b, 1), uint64(m.Limit)) }

// Decode reads what Append wrote.
func (m *AuditRequest) Decode(r *Reader) {
	r.Struct(1, "AuditRequest")
	m.Limit = r.Uint32("limit")
}

// Append adds [lines, lost, off].
func (m *AuditPage) Append(b []byte) []byte {
	return AppendBool(AppendUint(appendStrings(AppendArray(b, 3), m.Lines), m.Lost), m.Off)
}

// Decode reads what Append wrote.
func (m *AuditPage) Decode(r *Reader) {
	r.Struct(3, "AuditPage")
	*m = AuditPage{Lines: decodeStrings[string](r, AuditLinesMax, AuditLineBytesMax, "audit entries"), Lost: r.Uint(), Off: r.Bool()}
}
