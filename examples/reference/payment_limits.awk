# What the example payment_limits must find, by other means. The limits' file comes first.
BEGIN { FS = "," }
FNR == 1 { next }
NF == 2 { limit[$1] = $2 + 0; next }
$2 in limit && $3 + 0 > limit[$2] { print }
