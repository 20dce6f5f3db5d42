/* What a C program does: the limits that `ftrl bench` shows; nothing else uses it.
 *
 * learn: the update of ftrl_proximal, with everything known at compile time that C can know:
 * the row length, values of 1, the kind of the intercept. The logarithms of the label rate come
 * first; then it prefetches two rows ahead, gathers the cells, computes over small arrays in
 * loops the compiler vectorises, scatters.
 * split: where each column of tab-separated text ends, byte by byte, nothing hashed.
 */
#include <math.h>
#include <stdint.h>

#ifndef FEATURES
#define FEATURES 39
#endif

typedef struct { double z, n; } cell;

void learn(int64_t rows, const uint32_t *slots, const double *labels, cell *state,
           double alpha, double beta, double l1, double l2, double rate, double *margins)
{
    const double inverse_alpha = 1.0 / alpha;
    double term = 0.0, squares = 0.0, positives = 0.0, negatives = 0.0;
    double z[FEATURES], n[FEATURES], root[FEATURES], w[FEATURES];

    for (int64_t r = 0; r < rows; r++) {
        margins[r] = log((positives + 0.5) / (negatives + 0.5));
        positives += labels[r];
        negatives += 1.0 - labels[r];
    }
    for (int64_t r = 0; r < rows; r++) {
        const uint32_t *row = slots + r * FEATURES;
        if (r + 2 < rows)
            for (int k = 0; k < FEATURES; k++)
                __builtin_prefetch(&state[row[2 * FEATURES + k]], 1, 3);
        for (int k = 0; k < FEATURES; k++) {
            z[k] = state[row[k]].z;
            n[k] = state[row[k]].n;
        }
        double sum = 0.0;
#pragma omp simd reduction(+ : sum)
        for (int k = 0; k < FEATURES; k++) {
            root[k] = sqrt(n[k]);
            double x = (copysign(l1, z[k]) - z[k]) / ((beta + root[k]) * inverse_alpha + l2);
            w[k] = fabs(z[k]) > l1 ? x : 0.0;
            sum += w[k];
        }
        double margin = sum + (term + margins[r]);
        margins[r] = margin;
        double decay = exp(-fabs(margin));
        double p = (margin >= 0.0 ? 1.0 : decay) / (1.0 + decay);
        double g = p - labels[r], gg = g * g;
#pragma omp simd
        for (int k = 0; k < FEATURES; k++) {
            double next = n[k] + gg;
            z[k] += g - (sqrt(next) - root[k]) * inverse_alpha * w[k];
            n[k] = next;
        }
        for (int k = 0; k < FEATURES; k++)
            state[row[k]] = (cell){z[k], n[k]};

        squares += gg;
        term -= g * rate / (rate + squares);
    }
}

int64_t split(int64_t size, const uint8_t *text, int64_t columns, int64_t *ends)
{
    int64_t rows = 0, column = 0;
    for (int64_t i = 0; i < size; i++) {
        if (text[i] == '\t') {
            if (column < columns)
                ends[column] = i;
            column++;
        } else if (text[i] == '\n') {
            if (column < columns)
                ends[column] = i;
            rows += column + 1 == columns;
            column = 0;
        }
    }
    return rows;
}
