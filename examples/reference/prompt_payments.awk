# What the example prompt_payments must find, by other means: orders.csv, then payments.csv.
FNR == 1 { file++; next }
{ split($0, field, ",") }
file == 1 { ordered[field[2]] = field[1]; next }
field[2] in ordered {
    after = field[1] - ordered[field[2]]
    if (after >= 0 && after <= 600000) printf "%d,%d,%d\n", field[2], field[3], after
}
