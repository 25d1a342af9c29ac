//go:build !wasip1

package plugin

// notGranted is what the host answers without a grant; outside of a server there
// is none.
const notGranted = -2

func callLog(int32, string) int32                   { return notGranted }
func callGet(string, []byte) int32                  { return notGranted }
func callSet(string, string, int64) int32           { return notGranted }
func callDelete(string) int32                       { return notGranted }
func callAdd(string, int64, int64) (int64, int32)   { return 0, notGranted }
func callSwap(string, *string, string, int64) int32 { return notGranted }
func callMetadata(string, []byte) int32             { return notGranted }
func callHTTP([]byte, []byte) int32                 { return notGranted }
func callClock() int64                              { return notGranted }
