# What the example orders_and_payments must find, by other means: orders.csv, then payments.csv.
FNR == 1 { file++; next }
file == 1 {
    n = split($0, fields, ",")      # the customer may be quoted with commas inside
    price[fields[1]] = fields[n]
    next
}
{
    split($0, fields, ",")
    paid[fields[1]] += fields[2]
}
END {
    for (order in price) {
        if (paid[order] >= price[order]) printf "%s,paid,%d\n", order, paid[order]
        else printf "%s,open,%d\n", order, price[order] - paid[order]
    }
    for (order in paid) if (!(order in price)) printf "%s,unknown,%d\n", order, paid[order]
}
